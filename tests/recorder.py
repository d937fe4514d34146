"""Records a run for tests: its progress, and values that must be equal in two runs."""

from phalanx.rl import AlgoObserver


class Recorder(AlgoObserver):
    """Every iteration's (epoch, frame, values by tag but for the times, mean return) in `rows` and
    mean episode length in `lengths`; the agent."""

    def __init__(self):
        self.rows = []
        self.lengths = []

    def after_init(self, algo):
        self.agent = algo

    def after_print_stats(self, frame, epoch_num, total_time):
        stats = self.agent.last_stats.items()
        values = {k: v for k, v in stats if not k.startswith("performance/")}
        self.rows.append((epoch_num, frame, values, self.agent.mean_rewards.mean))
        self.lengths.append(self.agent.mean_lengths.mean)
