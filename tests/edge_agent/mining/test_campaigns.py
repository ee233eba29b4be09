"""Follow capture commands from beginning to end, on a clock the test moves."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.mining.campaigns import MOST_RUNNING, REMEMBERED, Campaigns
from fleet_contracts.messages import CaptureCommand
from tests.edge_agent.mining.frames import found, seen, some_frames

NOON = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)


class Clock:
    """Be the time on the wall."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


def command(name: str = "c-1", *, minutes: float = 60.0, **more: object) -> CaptureCommand:
    """Build a command that ends so many minutes after noon."""
    return CaptureCommand.model_validate(
        {"task_id": "boards", "device_id": "box-1", "command_id": name, "asked_by": "ana",
         "expires_at": NOON + timedelta(minutes=minutes), **more}
    )  # fmt: skip


def test_the_next_frames_of_a_class_within_a_band() -> None:
    """Another class, a score outside the band, and nothing at all do not count; the ends of the band do."""
    campaigns = Campaigns(Clock())
    asked = command(frames=3, class_name="missing", low=0.25, high=0.5, campaign="night")
    assert campaigns.start(asked)[1]
    for other in (found(), found((0.4, 0)), found((0.2, 1)), found((0.9, 1), (0.3, 2))):
        assert campaigns.reasons(seen(other)) == ()
    for wanted in (found((0.25, 1)), found((0.9, 0), (0.4, 1)), found((0.5, 1))):
        (reason,) = campaigns.reasons(seen(wanted))
        assert (reason.rule, reason.score, reason.detail) == ("capture", 1.0, "asked by ana, campaign night")
    assert campaigns.reasons(seen(found((0.4, 1)))) == ()
    (ended,) = campaigns.take_ended()
    assert (ended.outcome, ended.kept) == ("done", 3)
    assert campaigns.take_ended() == []
    assert campaigns.running() == {}


def test_a_band_without_a_class_means_any_class() -> None:
    """Any detection within the band will do; a frame without one will not."""
    campaigns = Campaigns(Clock())
    campaigns.start(command(frames=9, low=0.3, high=0.6))
    assert campaigns.reasons(seen(found((0.4, 2))))
    assert campaigns.reasons(seen(found((0.9, 2)))) == ()
    assert campaigns.reasons(seen(found())) == ()


def test_a_class_the_serving_model_does_not_know_never_shows() -> None:
    """The command stays and waits for a model that knows the class."""
    campaigns = Campaigns(Clock())
    campaigns.start(command(class_name="corrosion"))
    assert campaigns.reasons(seen(found((0.9, 0)))) == ()
    assert campaigns.running() == {"c-1": 0}


def test_a_command_ends_with_its_time_also_while_it_runs() -> None:
    """By a frame that comes too late, or with no frame at all."""
    for by_frame in (True, False):
        clock = Clock()
        campaigns = Campaigns(clock)
        campaigns.start(command(frames=10))
        assert campaigns.reasons(seen(found()))
        clock.now = NOON + timedelta(minutes=60)
        if by_frame:
            assert campaigns.reasons(seen(found())) == ()
        else:
            campaigns.end_expired()
        (ended,) = campaigns.take_ended()
        assert (ended.outcome, ended.kept) == ("expired", 1)


def test_late_known_and_too_many_commands_are_not_begun() -> None:
    """Each says how it stands; none disturbs those that run."""
    campaigns = Campaigns(Clock())
    late, is_new = campaigns.start(command("late", minutes=-1))
    assert (late.outcome, is_new) == ("refused", True)
    assert "expired at" in late.detail
    for number in range(MOST_RUNNING):
        assert campaigns.start(command(f"c-{number}"))[0].is_running
    crowded, _ = campaigns.start(command("one-more"))
    assert crowded.outcome == "refused"
    assert "c-0" in crowded.detail
    known, is_new = campaigns.start(command("c-0", frames=99))
    assert (known.is_running, known.command.frames, is_new) == (True, 1, False)


def test_a_frame_that_could_not_be_kept_does_not_count() -> None:
    """The outbox's queue was full: the command goes on for the frame, also when it was the last one."""
    campaigns = Campaigns(Clock())
    campaigns.start(command(frames=2))
    campaigns.start(command("stains", class_name="stain"))
    assert campaigns.reasons(seen(found()))
    campaigns.take_back()
    assert campaigns.running() == {"c-1": 0, "stains": 0}
    assert campaigns.reasons(seen(found()))
    assert campaigns.reasons(seen(found()))
    campaigns.take_back()
    assert campaigns.take_ended() == []
    assert campaigns.running() == {"c-1": 1, "stains": 0}
    assert campaigns.reasons(seen(found()))
    (ended,) = campaigns.take_ended()
    assert (ended.outcome, ended.kept) == ("done", 2)
    # Its end was told: what follows cannot change it, and a frame nobody asked for takes nothing back.
    campaigns.take_back()
    assert campaigns.reasons(seen(found())) == ()
    campaigns.take_back()
    assert (campaigns.all()[0].outcome, campaigns.all()[0].kept) == ("done", 2)


def test_a_restart_goes_on_where_it_was() -> None:
    """Counts and ended commands come back; frames are not asked for twice."""
    before = Campaigns(Clock())
    before.start(command("running", frames=3))
    before.start(command("done"))
    before.reasons(seen(found()))
    after = Campaigns(Clock())
    after.restore(before.all())
    assert after.running() == {"running": 1}
    assert after.start(command("done"))[0].outcome == "done"
    assert after.take_ended() == []


def test_ended_commands_are_forgotten_in_the_end() -> None:
    """Memory is bounded; what runs is never forgotten."""
    campaigns = Campaigns(Clock())
    campaigns.start(command("running", frames=10_000))
    for number in range(REMEMBERED + 50):
        campaigns.start(command(f"late-{number}", minutes=-1))
    assert len(campaigns.all()) == REMEMBERED
    assert campaigns.running() == {"running": 0}


@given(
    frames=st.lists(some_frames(), max_size=12),
    asked=st.integers(1, 5),
    band=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
    class_name=st.sampled_from(["", "scratch", "corrosion"]),
)
@settings(max_examples=60, deadline=None)
def test_no_command_keeps_more_than_it_asks_for(
    frames: list, asked: int, band: list[float], class_name: str
) -> None:
    """Whatever comes, exactly the first wanted frames are kept, and each shows what was asked for."""
    campaigns = Campaigns(Clock())
    wish = command(frames=asked, low=band[0], high=band[1], class_name=class_name)
    campaigns.start(wish)
    kept = [frame for frame in frames if campaigns.reasons(frame)]
    assert len(kept) <= asked
    for frame in () if wish.asks_for_all else kept:
        inside = (frame.detections.confidence >= wish.low) & (frame.detections.confidence <= wish.high)
        if class_name:
            inside &= frame.detections.class_id == frame.class_names.index(class_name)
        assert inside.any()
    (state,) = campaigns.all()
    assert state.kept == len(kept)
    assert (state.outcome == "done") == (len(kept) == asked)
