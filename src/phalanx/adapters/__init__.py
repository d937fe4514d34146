"""Phalanx tasks offered to other libraries, one file each: gymnasium, rl_games, rsl_rl, skrl.

Each file needs the library it is named after, which `pip install 'phalanx[adapters]'` brings.
Observations and rewards handed out are copies: a task overwrites its own in every step.
"""
