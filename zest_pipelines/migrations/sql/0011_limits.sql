-- What a connection may have of the limits that it shares with others, and what the ledger keeps of each limit.

ALTER TABLE sync.connection
    ADD COLUMN weight         integer NOT NULL DEFAULT 1 CHECK (weight BETWEEN 1 AND 100), -- its share, beside others'
    ADD COLUMN deliver_within interval CHECK (deliver_within > interval '0'); -- how old an edit may get; NULL: any age

ALTER TABLE sync.budget
    ADD COLUMN state jsonb NOT NULL DEFAULT '{}', -- how far the limit is spent
    ALTER COLUMN tat DROP NOT NULL;
