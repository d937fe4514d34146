"""A ROS 2 node that runs an exported policy. Needs rclpy, numpy, onnxruntime and phalanx.deploy.

    python ros2_policy_node.py --ros-args -p policy:=Twip.pth.onnx

It subscribes to /joint_states (sensor_msgs/JointState), /imu (sensor_msgs/Imu) and /cmd_vel
(geometry_msgs/Twist), and publishes /joint_targets (sensor_msgs/JointState) with the targets as
positions, velocities or efforts, depending on the policy. Adapt `robot_state` to your robot, and
compute the policy's custom terms there. While messages are missing or too old, nothing is
published; the motor drivers should then stop.
"""

import time

import rclpy
from geometry_msgs.msg import Twist
from rclpy.node import Node
from sensor_msgs.msg import Imu, JointState

from phalanx.deploy import Policy

STALE_S = 0.1
"""Age of a measurement above which the policy does not run."""


class PolicyNode(Node):
    """Measurements in, targets out, at the policy's rate."""

    def __init__(self) -> None:
        super().__init__("phalanx_policy")
        self.declare_parameter("policy", "")
        self.policy = Policy(self.get_parameter("policy").value)
        self.state = {"command": {"x": 0.0, "y": 0.0, "yaw": 0.0}}
        self.seen = {"joints": -1.0, "imu": -1.0}
        self.create_subscription(JointState, "joint_states", self.on_joints, 1)
        self.create_subscription(Imu, "imu", self.on_imu, 1)
        self.create_subscription(Twist, "cmd_vel", self.on_command, 1)
        self.publisher = self.create_publisher(JointState, "joint_targets", 1)
        self.create_timer(self.policy.metadata.control_dt, self.control)

    def on_joints(self, message: JointState) -> None:
        self.state["joint_pos"] = dict(zip(message.name, message.position, strict=True))
        self.state["joint_vel"] = dict(zip(message.name, message.velocity, strict=True))
        self.seen["joints"] = time.monotonic()

    def on_imu(self, message: Imu) -> None:
        q, w = message.orientation, message.angular_velocity
        self.state["base_quat"] = (q.w, q.x, q.y, q.z)  # ROS has w last
        self.state["base_ang_vel"] = (w.x, w.y, w.z)
        self.seen["imu"] = time.monotonic()

    def on_command(self, message: Twist) -> None:
        linear, angular = message.linear, message.angular
        self.state["command"] = {"x": linear.x, "y": linear.y, "yaw": angular.z}

    def robot_state(self) -> dict:
        return self.state

    def control(self) -> None:
        if time.monotonic() - min(self.seen.values()) > STALE_S:
            self.policy.reset()
            return
        command = self.policy.step(self.robot_state())
        message = JointState()
        message.header.stamp = self.get_clock().now().to_msg()
        message.name = list(command.joints)
        setattr(message, self.policy.metadata.action.kind, command.targets.tolist())
        self.publisher.publish(message)


def main() -> None:
    rclpy.init()
    node = PolicyNode()
    try:
        rclpy.spin(node)
    finally:
        latency = node.policy.latency() if node.policy.steps else None
        node.get_logger().info(f"latency [ms]: {latency}")
        node.destroy_node()
        rclpy.shutdown()


if __name__ == "__main__":
    main()
