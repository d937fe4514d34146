"""Small robots of our own, as text, for the tests of `phalanx robot` and what builds on it."""

LEG = """
<body name="{name}_thigh" pos="{x} {y} 0">
  <joint name="{name}_hip" axis="0 1 0" range="-1.5 1.5" armature="0.01"/>
  <geom type="capsule" fromto="0 0 0 0 0 -0.2" size="0.02" mass="0.3"/>
  <body name="{name}_shank" pos="0 0 -0.2">
    <joint name="{name}_knee" axis="0 1 0" range="-2.5 0" armature="0.01"/>
    <geom type="capsule" fromto="0 0 0 0 0 -0.2" size="0.02" mass="0.2"/>
    <body name="{name}_foot" pos="0 0 -0.2">
      <geom type="sphere" size="0.03" mass="0.05"/>
    </body>
  </body>
</body>
"""
LEGS = {"FL": (0.2, 0.1), "FR": (0.2, -0.1), "RL": (-0.2, 0.1), "RR": (-0.2, -0.1)}
MOTORS = "".join(
    f'<motor name="{leg}_{joint}" joint="{leg}_{joint}" gear="20" ctrlrange="-1 1"/>'
    for leg in LEGS
    for joint in ("hip", "knee")
)
QUADRUPED = f"""
<mujoco model="dog">
  <compiler angle="radian"/>
  <worldbody>
    <body name="trunk" pos="0 0 0.5">
      <freejoint/>
      <geom type="box" size="0.25 0.1 0.05" mass="5"/>
      <site name="imu"/>
      {"".join(LEG.format(name=name, x=x, y=y) for name, (x, y) in LEGS.items())}
    </body>
  </worldbody>
  <actuator>{MOTORS}</actuator>
  <sensor><gyro name="gyro" site="imu"/></sensor>
</mujoco>
"""
"""A dog of 5 + 4 (0.3 + 0.2 + 0.05) = 7.2 kg on straight legs, with motors of 20 N m."""

BIPED_LEG = """
<body name="{side}_thigh" pos="0 {y} -.05">
  <joint name="{side}_roll" axis="1 0 0" range="-.5 .5"/>
  <joint name="{side}_hip" axis="0 1 0" range="-1.5 1.5"/>
  <geom type="capsule" fromto="0 0 0 0 0 -.35" size=".04" mass="2"/>
  <body name="{side}_shank" pos="0 0 -.4">
    <joint name="{side}_knee" axis="0 1 0" range="0 2.5"/>
    <geom type="capsule" fromto="0 0 -.05 0 0 -.32" size=".03" mass="1"/>
    <body name="{side}_foot" pos="0 0 -.4">
      <joint name="{side}_ankle" axis="0 1 0" range="-1 1"/>
      <geom type="box" pos="{toe} 0 -.05" size=".11 .05 .02" mass=".5"/>
    </body>
  </body>
</body>"""


def biped(toe=0.04, arms=""):
    """A robot of 17 kg on two straight legs, without actuators. toe: how far the middle of a sole
    is ahead of its ankle [m]."""
    legs = "".join(BIPED_LEG.format(side=s, y=y, toe=toe) for s, y in (("l", 0.1), ("r", -0.1)))
    return (
        '<mujoco><compiler angle="radian"/><worldbody><body name="hips" pos="0 0 1"><freejoint/>'
        '<geom type="box" pos=".02 0 .2" size=".1 .15 .2" mass="10"/>'
        f"{legs}{arms}</body></worldbody></mujoco>"
    )


ARM = """
<mujoco model="arm">
  <compiler angle="radian"/>
  <worldbody>
    <body name="base">
      <geom type="cylinder" size="0.05 0.05" mass="1"/>
      <body name="upper" pos="0 0 0.1">
        <joint name="shoulder" axis="0 1 0" range="-2 2" damping="0.1"/>
        <geom type="capsule" fromto="0 0 0 0 0 0.3" size="0.03" mass="1"/>
        <body name="lower" pos="0 0 0.3">
          <joint name="elbow" axis="0 1 0" range="-2 2" damping="0.1"/>
          <geom type="capsule" fromto="0 0 0 0 0 0.3" size="0.02" mass="0.5"/>
        </body>
      </body>
    </body>
  </worldbody>
  <actuator>
    <position name="shoulder" joint="shoulder" kp="200" kv="10" forcerange="-60 60"/>
    <position name="elbow" joint="elbow" kp="100" kv="5" forcerange="-30 30"/>
  </actuator>
</mujoco>
"""
"""A fixed arm with position servos."""

BOX = """
<mujoco model="box">
  <worldbody>
    <body name="box">
      <freejoint/>
      <geom type="box" size="0.1 0.1 0.1" mass="2"/>
    </body>
  </worldbody>
</mujoco>
"""
