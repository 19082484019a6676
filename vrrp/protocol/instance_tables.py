"""What a virtual router does in each state: the tables of vrrp/protocol/instance.py. ``_ignore``: the pair means nothing. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from vrrp.protocol.events import (
    AddressFailed,
    AddressLost,
    AdvertBridged,
    AdvertOutdated,
    AdvertReceived,
    AdvertRepeated,
    AdvertSentAgain,
    AdvertUnsent,
    AnnounceRequested,
    DemotedByGroup,
    FaultCleared,
    FaultRaised,
    LocalAddressChanged,
    ParametersChanged,
    PriorityChanged,
    ProcessStalled,
    PromotedByGroup,
    Started,
    Stopped,
    TakeoverGranted,
    YieldCancelled,
    YieldRequested,
)
from vrrp.protocol.states import State, Timer

if TYPE_CHECKING:
    from vrrp.protocol.commands import InstanceCommand
    from vrrp.protocol.instance import VrrpInstance

Handler: TypeAlias = "Callable[[VrrpInstance, int, Any, list[InstanceCommand]], None]"
Row: TypeAlias = "tuple[Handler, Handler, Handler, Handler]"
STATE_COLUMNS = (State.INIT, State.BACKUP, State.MASTER, State.FAULT)


def event_table(v: type[VrrpInstance]) -> dict[tuple[State, type], Handler]:
    """(state, event) → what is done."""
    rows: Mapping[type, Row] = {
        #                     INIT                  BACKUP                 MASTER                 FAULT
        Started:             (v._start,            v._ignore,            v._ignore,            v._ignore),
        Stopped:             (v._stop_init,        v._stop_idle,         v._stop_master,       v._stop_idle),
        AdvertReceived:      (v._ignore,           v._backup_advert,     v._master_advert,     v._ignore),
        AdvertRepeated:      (v._ignore,           v._repeated,          v._ignore,            v._ignore),
        AdvertOutdated:      (v._ignore,           v._ignore,            v._outdated_rival,    v._ignore),
        PriorityChanged:     (v._other_priority,   v._backup_priority,   v._other_priority,    v._other_priority),
        FaultRaised:         (v._note_fault,       v._fault_backup,      v._fault_master,      v._note_fault),
        FaultCleared:        (v._forget_fault,     v._ignore,            v._ignore,            v._fault_cleared),
        LocalAddressChanged: (v._address_set,      v._address_set,       v._address_set,       v._address_set),
        AddressLost:         (v._ignore,           v._ignore,            v._address_lost,      v._ignore),
        AddressFailed:       (v._ignore,           v._ignore,            v._address_failed,    v._ignore),
        ParametersChanged:   (v._reload,           v._reload_backup,     v._reload_master,     v._reload),
        AdvertUnsent:        (v._unsent_idle,      v._unsent_idle,       v._unsent_master,     v._unsent_idle),
        AdvertSentAgain:     (v._sent_again,       v._sent_again,        v._sent_again,        v._sent_again_fault),
        ProcessStalled:      (v._ignore,           v._backup_stalled,    v._master_stalled,    v._ignore),
        TakeoverGranted:     (v._granted,          v._backup_granted,    v._granted,           v._granted),
        YieldRequested:      (v._yield_idle,       v._yield_idle,        v._yield_master,      v._yield_idle),
        YieldCancelled:      (v._unyield,          v._unyield,           v._unyield,           v._unyield),
        AdvertBridged:       (v._ignore,           v._backup_bridged,    v._ignore,            v._ignore),
        AnnounceRequested:   (v._ignore,           v._ignore,            v._announce_asked,    v._ignore),
        PromotedByGroup:     (v._ignore,           v._promoted,          v._ignore,            v._ignore),
        DemotedByGroup:      (v._ignore,           v._ignore,            v._demoted,           v._ignore),
    }  # fmt: skip
    return {(state, event): row[column] for event, row in rows.items() for column, state in enumerate(STATE_COLUMNS)}


def timer_table(v: type[VrrpInstance]) -> dict[tuple[State, Timer], Handler]:
    """(state, timer that is due) → what is done."""
    rows: Mapping[Timer, Row] = {
        #                       INIT                BACKUP                     MASTER                  FAULT
        Timer.STARTUP:          (v._leave_init,    v._impossible,            v._impossible,         v._impossible),
        Timer.ADVERT:           (v._impossible,    v._impossible,            v._advert_due,         v._impossible),
        Timer.YIELD_END:        (v._yield_ended,   v._yield_ended,           v._impossible,         v._yield_ended),
        Timer.PREEMPT_DELAY:    (v._impossible,    v._preempt_delay_ended,   v._impossible,         v._impossible),
        Timer.MASTER_DOWN:      (v._impossible,    v._master_down,           v._impossible,         v._impossible),
        Timer.FAULT_RETRY:      (v._impossible,    v._impossible,            v._impossible,         v._fault_retry),
        Timer.EGRESS_PROBE:     (v._impossible,    v._impossible,            v._impossible,         v._probe_egress),
        Timer.RESTORE:          (v._impossible,    v._impossible,            v._restore,            v._impossible),
        Timer.GARP_AGAIN:       (v._impossible,    v._impossible,            v._garp_again,         v._impossible),
        Timer.GARP_LOWER_AGAIN: (v._impossible,    v._impossible,            v._garp_lower_again,   v._impossible),
        Timer.REANNOUNCE:       (v._impossible,    v._impossible,            v._reannounce,         v._impossible),
        Timer.GARP_REFRESH:     (v._impossible,    v._impossible,            v._garp_refresh,       v._impossible),
        Timer.GARP_EXTRA:       (v._impossible,    v._impossible,            v._garp_extra,         v._impossible),
    }  # fmt: skip
    return {(state, timer): row[column] for timer, row in rows.items() for column, state in enumerate(STATE_COLUMNS)}
