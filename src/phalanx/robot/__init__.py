"""One robot file looked at: what it contains, how its joints can be held, how it falls.

robot = read_robot("go2.xml")                # RobotFile: spec, model, what was mended
facts_of(robot)                              # plain data: bodies, joints, actuators, ...
drop(HeldRobot(robot, default_pose(robot)))  # two seconds on the ground
"""

from phalanx.robot.drop import Drop, drop
from phalanx.robot.facts import RobotFacts, facts_of
from phalanx.robot.file import RobotFile, read_robot
from phalanx.robot.held import HeldRobot
from phalanx.robot.pose import Pose, default_pose

__all__ = [
    "Drop", "HeldRobot", "Pose", "RobotFacts", "RobotFile", "default_pose", "drop", "facts_of",
    "read_robot",
]  # fmt: skip
