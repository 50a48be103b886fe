-- How loudly a reason is told, and whether trying again is safe. The table is filled with every installation, after this.

DELETE FROM sync.reason;
ALTER TABLE sync.reason
    ADD COLUMN severity text NOT NULL CHECK (severity IN ('information', 'warning', 'error')),
    ADD COLUMN retry text NOT NULL CHECK (retry IN ('automatic', 'by_hand', 'after_change', 'after_look'));

COMMENT ON TABLE sync.reason IS 'The catalogue of reasons, as this version of the platform has it: docs/errors.md.';
COMMENT ON COLUMN sync.reason.owner IS 'whose turn it is: user, partner, us, unknown';
COMMENT ON COLUMN sync.reason.severity IS
    'information (nothing is wrong), warning (goes on by itself, or was done with a remark), error (stands until somebody acts)';
COMMENT ON COLUMN sync.reason.retry IS
    'automatic (we do it by ourselves), by_hand (safe at any time), after_change (useless before), after_look (look first)';
COMMENT ON COLUMN sync.reason.action_ja IS
    'with {parameter} places; {reference} is the number that support asks for: docs/errors.md says how it is made';
COMMENT ON COLUMN sync.reason.action_en IS
    'with {parameter} places; {reference} is the number that support asks for: docs/errors.md says how it is made';
