"""Which update events nobody has looked at yet for a connection, as conditions on the event `e` and the cursor `k`.

Transactions are numbered by a cluster: after a dump and a restore the numbers of older events are another's, and may
lie in the future here. Those are left out, and the cursor says of which cluster it is.
"""

from __future__ import annotations

CURSOR = "coalesce(k.xid, xid8 '0'), coalesce(k.event_id, 0)"
"""Where a connection without a cursor stands before all events."""
IS_PAST_CURSOR = f"(e.xid, e.event_id) > ({CURSOR})"
"""Whatever transaction it is of: after a restore also one whose number nobody has drawn here yet."""
IS_UNREAD = f"{IS_PAST_CURSOR} AND e.xid < pg_snapshot_xmax(pg_current_snapshot())"
"""Also while a transaction that is still open keeps the accumulation from reading on."""
IS_BELOW_OPEN = "e.xid < pg_snapshot_xmin(pg_current_snapshot())"
"""Of a transaction that began before every one that is still open."""
IS_OF_ANOTHER_CLUSTER = "k.system_id <> (SELECT system_identifier FROM pg_control_system())"
"""Of the cursor: all events are to be read once more."""
