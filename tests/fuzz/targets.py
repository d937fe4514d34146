"""The loaders by name: `TARGETS[name](folder)` makes one, `.case(rng)` a broken file for it, and a
call with that loads it and checks what was accepted."""

from fuzz import checkpoints, gyms, motions, networks, repositories, robots, settings

TARGETS = {
    "npy": motions.Npy,
    "bvh": motions.Bvh,
    "json": motions.Json,
    "npz": networks.Npz,
    "safetensors": networks.Safetensors,
    "onnx": networks.Onnx,
    "settings": settings.Settings,
    "randomization": settings.Randomization,
    "doctor": repositories.Doctor,
    "gym": gyms.Gym,
    "mjcf": robots.Mjcf,
    "urdf": robots.Urdf,
    "mesh": robots.Mesh,
    "ppo": checkpoints.OfPPO,
    "lstm": checkpoints.OfLSTM,
    "sac": checkpoints.OfSAC,
    "dqn": checkpoints.OfDQN,
    "amp": checkpoints.OfAMP,
    "randomized": checkpoints.OfRandomizedAnt,
}
