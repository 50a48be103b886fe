-- A reading that broke off can be taken up; a wrong link can be undone.

DO $$
DECLARE name text;
BEGIN
    SELECT c.conname INTO STRICT name FROM pg_constraint c
    WHERE c.conrelid = 'sync.snapshot'::regclass AND c.contype = 'c' AND pg_get_constraintdef(c.oid) LIKE '%progress%';
    EXECUTE format('ALTER TABLE sync.snapshot DROP CONSTRAINT %I', name);
END $$;
-- Of a failed one: it broke off, and the next one takes it up there.
ALTER TABLE sync.snapshot ADD CONSTRAINT snapshot_taken_up CHECK (
    state IN ('reading', 'failed') OR (resume IS NULL AND progress IS NULL));
