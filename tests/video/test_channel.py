from __future__ import annotations

import socket
import threading
import time

import numpy as np
import pytest

from action100m.video.channel import Channel, Heartbeat
from action100m.video.child import BeatingChannel


def test_messages_and_pixels_arrive_intact() -> None:
    ours, theirs = socket.socketpair()
    pixels = np.random.default_rng(0).integers(0, 256, (4, 300, 400, 3), np.uint8)
    here, there = Channel(ours), Channel(theirs)

    def send() -> None:
        there.send("pixels follow")
        there.send_pixels(pixels)
        there.close()

    thread = threading.Thread(target=send)
    thread.start()
    assert here.receive() == "pixels follow"
    assert (here.receive_pixels(pixels.shape) == pixels).all()
    with pytest.raises(EOFError):
        here.receive()
    thread.join()
    here.close()


def test_silence_is_a_timeout() -> None:
    ours, theirs = socket.socketpair()
    ours.settimeout(0.05)
    with theirs, ours, pytest.raises(TimeoutError):
        Channel(ours).receive()


def test_a_late_answer_is_received_as_after_a_suspension() -> None:
    ours, theirs = socket.socketpair()
    ours.settimeout(0.5)
    with theirs, ours:
        timer = threading.Timer(0.7, Channel(theirs).send, ["awake again"])
        timer.start()
        assert Channel(ours).receive() == "awake again"
        assert ours.gettimeout() == 0.5
        timer.join()


def test_a_heartbeat_is_sent_only_after_silence() -> None:
    ours, theirs = socket.socketpair()
    beating = BeatingChannel(theirs)
    beating.send("hello")
    beating.beat()
    time.sleep(0.6)
    beating.beat()
    beating.close()
    here = Channel(ours)
    assert [here.receive(), here.receive()] == ["hello", Heartbeat()]
    with pytest.raises(EOFError):
        here.receive()
    here.close()
