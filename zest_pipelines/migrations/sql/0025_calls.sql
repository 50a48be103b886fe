-- What was asked of the partner and what it answered, where there is something to explain: masked before it comes here.
ALTER TABLE sync.result ADD COLUMN calls jsonb;
