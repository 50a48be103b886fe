-- How long edits have been held back by an open transaction: the scheduler looks at the age of those it cannot read yet.
GRANT SELECT (at) ON sync.update_event TO zest_schedule;
