"""The loaders by name: `TARGETS[name](folder)` makes one, `.case(rng)` a broken file for it, and a
call with that loads it and checks what was accepted."""

from fuzz import (
    arrays,
    checkpoints,
    gyms,
    motions,
    networks,
    pictures,
    records,
    repositories,
    robots,
    settings,
)

NEEDS = {"onnx": ("onnx", "onnxruntime", "onnxscript")}
"""Packages without which a loader cannot be called."""
TARGETS = {
    "npy": motions.Npy,
    "bvh": motions.Bvh,
    "json": motions.Json,
    "csv": arrays.Csv,
    "rows": arrays.Rows,
    "pickle": arrays.Pickle,
    "motion_npz": arrays.Npz,
    "motion_list": arrays.Lists,
    "npz": networks.Npz,
    "safetensors": networks.Safetensors,
    "onnx": networks.Onnx,
    "study": records.Studies,
    "tracking": records.Ids,
    "bench": records.Bench,
    "command_line": settings.CommandLine,
    "settings": settings.Settings,
    "randomization": settings.Randomization,
    "doctor": repositories.Doctor,
    "gym": gyms.Gym,
    "assets": pictures.Assets,
    "mjcf": robots.Mjcf,
    "urdf": robots.Urdf,
    "mesh": robots.Mesh,
    "picture": pictures.Picture,
    "look": robots.Look,
    "ppo": checkpoints.OfPPO,
    "lstm": checkpoints.OfLSTM,
    "sac": checkpoints.OfSAC,
    "dqn": checkpoints.OfDQN,
    "amp": checkpoints.OfAMP,
    "randomized": checkpoints.OfRandomizedAnt,
}
