"""The simulator runs the daemons' own classes, not copies of them."""

from __future__ import annotations

import fencing.plan.session
import vrrp.protocol.instance
import watchdog.daemon
import watchdog.frames.codec
import watchdog.frames.path_state
import watchdog.judgement.contact
import watchdog.judgement.fence_control
import watchdog.judgement.watcher
from watchdog.simulator.options import NODES
from watchdog.simulator.plants import PLANTS
from watchdog.simulator.run import build
from watchdog.simulator.stories import draw_options


def test_a_running_world_is_made_of_the_daemons_classes() -> None:
    world = build(draw_options(3))
    world.scheduler.after(0, lambda: None)
    for node in NODES:
        world.vrrp[node].start()
        world.brains[node].start()
        assert type(world.brains[node].core) is watchdog.judgement.watcher.WatcherCore
        for instance in world.vrrp[node].instances.values():
            assert type(instance) is vrrp.protocol.instance.VrrpInstance


def test_the_daemon_and_the_simulator_share_one_watcher_core() -> None:
    assert watchdog.daemon.WatcherCore is watchdog.judgement.watcher.WatcherCore
    assert watchdog.simulator.run.WatcherCore is watchdog.daemon.WatcherCore


def test_the_core_drives_the_one_codec_path_state_and_fence_session() -> None:
    assert watchdog.judgement.contact.open_codec is watchdog.frames.codec.open_codec
    assert watchdog.judgement.contact.PathState is watchdog.frames.path_state.PathState
    assert watchdog.judgement.fence_control.FenceSession is fencing.plan.session.FenceSession


def test_a_planted_bug_is_a_small_subclass_of_the_very_core() -> None:
    for plant in PLANTS.values():
        assert issubclass(plant.core, watchdog.judgement.watcher.WatcherCore)
        overridden = [name for name in vars(plant.core) if not name.startswith("__")]
        assert 1 <= len(overridden) <= 3, f"{plant.core} overrides {overridden}"
        for name in overridden:
            assert hasattr(watchdog.judgement.watcher.WatcherCore, name), f"{name} is no method of the core any more"
