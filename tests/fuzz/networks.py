"""Actuator networks (.npz, .safetensors) and exported policies (.onnx)."""

import contextlib
import io
import json
import math
import struct
import zipfile

import numpy as np
import torch

from fuzz import mutate
from phalanx.cli.config import compose_config, resolved, train_params
from phalanx.deploy import Policy
from phalanx.deploy.export import export
from phalanx.rl import Runner
from phalanx.sim import Scene, Sim
from phalanx.tasks.actuators import make_actuators

ARM = """
<mujoco><worldbody><body name="upper"><joint name="a" axis="0 1 0"/>
  <geom type="capsule" fromto="0 0 0 0 0 -0.3" size="0.02" mass="0.5"/></body></worldbody>
<actuator><motor joint="a" gear="4" ctrlrange="-1 1"/></actuator></mujoco>
"""


class Actuator:
    """A learned motor; its efforts at some states are finite."""

    suffix: str

    def __init__(self, folder):
        torch.set_num_threads(1)
        robot = folder / "arm.xml"
        robot.write_text(ARM)
        scene = Scene()
        scene.add_actor("arm", robot, fixed_base=True)
        self.sim = Sim(scene, 2, "cpu")
        self.file = folder / f"net{self.suffix}"

    def arrays(self, rng):
        numbers = np.random.default_rng(rng.randrange(100))
        shapes = {"0.weight": (4, 2), "0.bias": (4,), "2.weight": (1, 4), "2.bias": (1,)}
        if rng.randrange(2):
            lstm = {"weight_ih_l0": (12, 2), "weight_hh_l0": (12, 3)}
            lstm |= {"bias_ih_l0": (12,), "bias_hh_l0": (12,)}
            shapes = {f"lstm.{k}": v for k, v in lstm.items()}
            shapes |= {"fc.weight": (1, 3), "fc.bias": (1,)}
        return {k: numbers.normal(size=v).astype("f4") for k, v in shapes.items()}

    def __call__(self, data):
        self.file.write_bytes(data)
        settings = {"actor": "arm", "model": "network", "file": str(self.file)}
        (made,) = make_actuators(self.sim, {"a": settings})
        for size in (0.0, 1.0, 100.0):
            made.command.fill_(size)
            for _ in range(2):
                effort = made.compute(torch.full((2, 1), -size), torch.full((2, 1), size))
                assert effort.isfinite().all(), f"an effort of {effort}"


class Npz(Actuator):
    suffix = ".npz"

    def case(self, rng):
        arrays = self.arrays(rng)
        if rng.randrange(2):
            arrays = mutate.of_structure(rng, arrays)
        buffer = io.BytesIO()
        try:
            (np.savez_compressed if rng.randrange(2) else np.savez)(buffer, **arrays)
        except Exception:
            return b""
        data = buffer.getvalue()
        if rng.randrange(3) == 0:
            parts = {}
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                parts = {name: archive.read(name) for name in archive.namelist()}
            if parts:
                name = rng.choice(list(parts))
                parts[name] = mutate.of_text(rng, parts[name])
            if rng.randrange(5) == 0:
                parts["x.npy"] = bytes(2**21)
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, content in parts.items():
                    archive.writestr(name, content)
            data = buffer.getvalue()
        return mutate.of_bytes(rng, data) if rng.randrange(2) else data


class Safetensors(Actuator):
    suffix = ".safetensors"

    def case(self, rng):
        header, data = {"__metadata__": {"format": "pt"}}, b""
        for name, values in self.arrays(rng).items():
            end = len(data) + values.nbytes
            shape = list(values.shape)
            header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), end]}
            data += values.tobytes()
        way = rng.randrange(3)
        if way == 0:
            header = mutate.of_structure(rng, header)
        text = b"{}"
        with contextlib.suppress(TypeError, ValueError):
            text = json.dumps(header, default=str).encode()
        if way == 1:
            text = mutate.of_text(rng, text)
        content = struct.pack("<Q", len(text)) + text + data
        return mutate.of_bytes(rng, content) if way == 2 else content


class Onnx:
    """An exported policy; what is accepted acts, and only within its bounds."""

    arguments = ("task=Ant", "num_envs=2", "sim_device=cpu", "train.params.network.mlp.units=[8]")

    def __init__(self, folder):
        import onnx

        torch.set_num_threads(1)
        self.file = folder / "a.onnx"
        options = resolved(compose_config([*self.arguments, f"train_dir={folder}"]))
        runner = Runner()
        runner.load({"params": train_params(options)})
        agent = runner.algo_factory.create(runner.algo_name, base_name="run", params=runner.params)
        agent.save(folder / "a")
        made, _ = export(runner.create_player(), folder / "a.pth")
        self.model = onnx.load(str(made))
        self.about = json.loads(self.model.metadata_props[0].value)

    def case(self, rng):
        import onnx

        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        prop, way = model.metadata_props[0], rng.randrange(6)
        if way < 3:
            try:
                changed = mutate.of_structure(rng, self.about)
                prop.value = json.dumps(changed, default=str)
            except (TypeError, ValueError):
                prop.value = "{}"
        elif way == 3:
            changed = mutate.of_text(rng, prop.value.encode())
            mark = b"PHALANX"
            prop.value = mark.decode() * (1 + len(changed) // len(mark))
            whole = model.SerializeToString()
            return whole.replace(prop.value.encode(), changed.ljust(len(prop.value)))
        elif way == 4:
            node = rng.choice([*model.graph.output, *model.graph.input, *model.graph.node])
            node.name = rng.choice(("", "x", "actions", "obs", "targets"))
            if hasattr(node, "output") and node.output and rng.randrange(2):
                node.output[0] = rng.choice(("actions", "targets", "x"))
        data = model.SerializeToString()
        return mutate.of_bytes(rng, data) if way == 5 else data

    def __call__(self, data):
        self.file.write_bytes(data)
        policy = Policy(self.file)
        about = policy.metadata
        assert math.isfinite(about.control_dt)
        state = {"base_quat": np.array([1.0, 0, 0, 0]), "base_height": 0.5}
        for term in about.observation.terms:
            if term.quantity == "custom":
                state[term.name] = np.full(term.size, 0.1)
            if term.quantity == "command":
                state["command"] = dict.fromkeys(term.elements, 0.1)
        names = {e for t in about.observation.terms for e in t.elements}
        names |= {joint.name for joint in about.joints}
        state |= {"joint_pos": dict.fromkeys(names, 0.1), "joint_vel": dict.fromkeys(names, 0.1)}
        state |= {"base_lin_vel": np.zeros(3), "base_ang_vel": np.zeros(3)}
        for _ in range(2):
            command = policy.step(state)
            assert np.isfinite(command.action).all(), command
            assert np.isfinite(command.targets).all(), command
            assert len(command.targets) == len(about.action.joints), command
            assert (command.targets <= policy._high).all(), command
