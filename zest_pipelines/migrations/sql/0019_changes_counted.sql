-- The guard counts with the changes at hand those of the last hour: what was applied lately is looked for by its time.

CREATE INDEX master_result_applied ON sync.master_result (tenant_id, partner, entity, made_at) WHERE outcome = 'applied';
