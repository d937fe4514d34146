"""The browser view: its page in a headless Chromium, its server, and mistakes in words."""

import asyncio
import http.client
import importlib.util
import socket

import numpy as np
import pytest

from browser import LOADING, page_of, pixels, running, wait_for
from phalanx.cli.main import main
from phalanx.errors import PhalanxError
from phalanx.robot import HeldRobot, default_pose, read_robot
from phalanx.viewer import RobotView, open_server, server
from phalanx.viewer.scene import BOTH, COLLIDES, DRAWN, GROUND, NEITHER, groups
from phalanx.viewer.server import close
from ports import free_port
from small_robots import ARM, QUADRUPED


@pytest.fixture
def view(tmp_path):
    """The arm's page, running."""
    (tmp_path / "arm.xml").write_text(ARM)
    robot = read_robot(str(tmp_path / "arm.xml"))
    view = RobotView(HeldRobot(robot, default_pose(robot)), open_server("arm"))
    with running(view):
        yield view


@pytest.fixture
def page(view):
    """The page in a browser, once the robot is there."""
    with page_of(view.server) as page:
        page.get_by_text("Start physics").wait_for(timeout=LOADING)
        yield page


def type_target(page, joint, value):
    """Type into the box beside a joint's slider."""
    row = page.get_by_text(joint, exact=True).locator("xpath=ancestor::*[.//input][1]")
    box = row.locator("input").last
    box.fill(str(value))
    box.press("Enter")


def test_sliders_and_switches_of_the_page_reach_the_simulation(view, page):
    held = view.held
    joint = dict(zip([d.joint for d in held.drives], held.joint_qpos, strict=True))
    page.wait_for_timeout(1000)
    before = page.locator("canvas").first.screenshot()
    type_target(page, "elbow", 1.2)
    wait_for(lambda: held.data.qpos[joint["elbow"]] == pytest.approx(1.2))
    assert held.data.time == 0  # physics is off
    page.get_by_text("Start physics").click()
    type_target(page, "shoulder", -0.5)
    # the arm's weight bends the servos of 200 N m/rad by at most 0.03 rad
    wait_for(lambda: abs(held.data.qpos[joint["shoulder"]] + 0.5) < 0.04 and held.data.time > 1)
    assert held.data.qpos[joint["elbow"]] == pytest.approx(1.2, abs=0.04)
    page.get_by_text("Stop physics").click()
    after = page.locator("canvas").first.screenshot()
    for picture in (before, after):
        assert len(np.unique(pixels(picture).reshape(-1, 3), axis=0)) > 200  # shaded shapes
    moved = np.abs(pixels(before).astype(int) - pixels(after)).max(axis=2) > 40
    assert moved.mean() > 0.005
    page.get_by_text("Reset", exact=True).click()
    wait_for(lambda: held.data.time == 0 and held.data.qpos[joint["elbow"]] == 0)
    scene = view.scene.scene
    shown = {
        "Drawn shapes": lambda: scene.geom_groups_visible[DRAWN],
        "Collision shapes": lambda: scene.geom_groups_visible[COLLIDES],
        "Inertia boxes": lambda: scene.show_inertia,
        "Body frames": lambda: scene.frame_mode == "Body",
        "Contact points": lambda: scene.show_contact_points,
        "Contact forces": lambda: scene.show_contact_forces,
        "Follow the robot": lambda: scene.camera_tracking_enabled,
    }
    before = [is_on() for is_on in shown.values()]
    assert before == [True, False, False, False, True, True, False]
    for name in shown:
        page.get_by_text(name, exact=True).click()
    wait_for(lambda: [is_on() for is_on in shown.values()] == [not on for on in before])


def test_groups_follow_what_shapes_are_for(tmp_path):
    shapes = (
        '<geom size="1" contype="0" conaffinity="0" group="2" mass="0"/>'
        '<geom size="1" group="3"/><geom size="1" contype="0" conaffinity="0" group="4" mass="0"/>'
    )
    text = QUADRUPED.replace('<site name="imu"/>', shapes).replace('site="imu"', 'body="trunk"')
    (tmp_path / "dog.xml").write_text(text.replace("<gyro", "<subtreecom"))
    robot = read_robot(str(tmp_path / "dog.xml"))
    model = HeldRobot(robot, default_pose(robot)).model
    found = groups(model)
    assert found[model.geom_bodyid == 0].tolist() == [GROUND]
    assert found[model.geom_bodyid == 1].tolist() == [COLLIDES, DRAWN, COLLIDES, NEITHER]
    assert set(found[model.geom_bodyid > 1]) == {BOTH}


def test_the_server_listens_on_this_machine_only_and_says_where(capsys):
    server = open_server("robot")
    port = server.get_port()
    said = capsys.readouterr().out
    assert said == f"robot: http://127.0.0.1:{port}  (Ctrl-C stops it)\n"
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        pass
    elsewhere = socket.socket()
    elsewhere.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # of connections that ended
    elsewhere.bind(("127.0.0.2", port))  # free, so the server has not bound all addresses
    elsewhere.close()
    with pytest.raises(PhalanxError, match=f"port {port} is taken; choose another with port="):
        open_server("again", port=port)
    second = open_server("second")
    assert second.get_port() != port
    assert server.request_share_url() is None  # no tunnel to a server of others
    capsys.readouterr()
    close(second)
    close(server)
    assert capsys.readouterr().out == ""


def test_a_port_that_another_program_takes_meanwhile_is_not_used(capsys, monkeypatch):
    """It was free when it was looked at."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", taken := free_port()))
        other.listen()
        looked, real = [], server._problem

        def once_free(host, port):
            looked.append(port)
            return None if looked == [taken] else real(host, port)

        monkeypatch.setattr(server, "_problem", once_free)
        monkeypatch.setattr(server, "PORT", taken)
        for host in ("127.0.0.1", "0.0.0.0"):
            looked.clear()
            with pytest.raises(PhalanxError, match=f"port {taken} is taken; choose another"):
                open_server("robot", host, taken)
        looked.clear()
        opened = open_server("robot")
        close(opened)
        assert f":{opened.get_port()} " in capsys.readouterr().out
        assert opened.get_port() != taken


def test_a_page_for_other_machines_opens_where_an_event_loop_runs(capsys):
    """As in a notebook."""

    async def opened():
        return open_server("robot", "0.0.0.0", free_port())

    page = asyncio.run(opened())
    with socket.create_connection(("127.0.0.1", page.door.port), timeout=5):
        pass
    close(page)


def test_a_line_that_asks_for_nothing_is_no_event(caplog):
    server = open_server("Robot")
    try:
        with socket.create_connection(("127.0.0.1", server.get_port()), timeout=10):
            pass
        line = http.client.HTTPConnection("127.0.0.1", server.get_port(), timeout=10)
        line.request("GET", "/")
        assert line.getresponse().status == 200
        line.close()
    finally:
        close(server)
    assert not [r for r in caplog.records if r.name.startswith("websockets")]


def test_for_other_machines_there_is_a_token(capsys):
    server = open_server("robot", host="0.0.0.0", port=free_port())
    said = capsys.readouterr().out
    whole = said.partition("robot: ")[2].partition("  ")[0]
    port = int(whole.rpartition(":")[2].partition("/")[0])
    with socket.create_connection(("127.0.0.1", server.get_port()), timeout=5):
        pass  # viser itself is reached from this machine only
    elsewhere = socket.socket()
    elsewhere.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # of connections that ended
    elsewhere.bind(("127.0.0.2", server.get_port()))
    elsewhere.close()

    def ask(path, **headers):
        line = http.client.HTTPConnection("127.0.0.2", port, timeout=20)
        line.request("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})
        answer = line.getresponse()
        return answer.status, answer.getheader("Set-Cookie"), answer.read()

    assert ask("/")[0] == 403
    assert b"whole address" in ask("/?token=guessed")[2]
    assert ask("/", Cookie="phalanx-view=guessed")[0] == 403
    status, cookie, _ = ask("/?" + whole.partition("?")[2])
    assert status == 303
    cookie = cookie.partition(";")[0]
    status, _, page = ask("/", Cookie=cookie)
    assert (status, b"<html" in page.lower()) == (200, True)
    assert ask("/", Cookie=cookie, Origin="http://evil.example")[0] == 403
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13"}
    upgrade |= {"Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    assert ask("/", **upgrade)[0] == 403
    fields = {"Host": "me", "Cookie": cookie, **upgrade}
    head = ["GET / HTTP/1.1", *(f"{k.replace('_', '-')}: {v}" for k, v in fields.items()), "", ""]
    inside = socket.create_connection(("127.0.0.2", port), timeout=5)
    inside.sendall("\r\n".join(head).encode())
    assert inside.recv(12) == b"HTTP/1.1 101"
    close(server)
    while inside.recv(1 << 16):
        pass  # whoever is inside is seen out
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.2", port), timeout=5)


def test_ctrl_c_is_the_normal_end(tmp_path, capsys, monkeypatch):
    (tmp_path / "arm.xml").write_text(ARM)

    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(RobotView, "run", interrupted)
    port = free_port()
    main(["robot", str(tmp_path / "arm.xml"), "view=true", f"port={port}"])
    assert f"http://127.0.0.1:{port}  (" in capsys.readouterr().out
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_mistakes_are_one_sentence(tmp_path, capsys, monkeypatch):
    (tmp_path / "arm.xml").write_text(ARM)
    arguments = ["robot", str(tmp_path / "arm.xml"), "view=true"]

    def said(*more):
        with pytest.raises(SystemExit) as stop:
            main([*arguments, *more])
        text = capsys.readouterr().err
        assert stop.value.code == 2
        assert text.count("\n") == 1
        return text

    assert "host=300.1.1.1 is no address of this machine" in said("host=300.1.1.1")
    assert "host=192.0.2.1 is no address of this machine" in said("host=192.0.2.1")
    assert "port is 70000; it must be" in said("port=70000")
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "viser" else find(name)
    )
    assert "needs viser; install it with `pip install 'phalanx[view]'`" in said()
