-- The newest edit of a month, found without looking at the others: whose cursor is past it has nothing unread in that
-- month (docs/adr/0002).
CREATE INDEX update_event_newest ON sync.update_event (month, xid, event_id);
