-- What was asked of the partner and what it answered when a reading broke off, masked: of the last one of an entity.
ALTER TABLE sync.snapshot ADD COLUMN calls jsonb;
CREATE INDEX snapshot_calls ON sync.snapshot (tenant_id, partner, entity) WHERE calls IS NOT NULL;
