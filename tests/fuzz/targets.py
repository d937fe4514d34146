"""The loaders by name: `TARGETS[name](folder)` makes one, `.case(rng)` a broken file for it, and a
call with that loads it and checks what was accepted."""

from fuzz import checkpoints, motions

TARGETS = {
    "npy": motions.Npy,
    "bvh": motions.Bvh,
    "json": motions.Json,
    "ppo": checkpoints.OfPPO,
    "lstm": checkpoints.OfLSTM,
    "sac": checkpoints.OfSAC,
    "dqn": checkpoints.OfDQN,
    "amp": checkpoints.OfAMP,
    "randomized": checkpoints.OfRandomizedAnt,
}
