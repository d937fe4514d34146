"""Phalanx tasks for other libraries, one file each: gymnasium, rl_games, rsl_rl, skrl,
stable_baselines3, torchrl.

Each file needs the library that it is named after; `pip install 'phalanx[adapters]'` installs them
except rl-games. Observations and rewards are returned as copies, because a task overwrites its own
in every step.
"""
