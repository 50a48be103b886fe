-- The guard counts with the deletes at hand who is still to be proved gone.

GRANT SELECT (tenant_id, partner, entity, partner_id, since) ON sync.suspicion TO zest_apply;
