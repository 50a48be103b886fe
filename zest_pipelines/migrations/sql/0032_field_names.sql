-- Names of the product's fields for those who put sync.reason's sentences together.

CREATE TABLE sync.field (
    field   text PRIMARY KEY,
    name_ja text NOT NULL,
    name_en text NOT NULL
);

COMMENT ON TABLE sync.field IS
    'What care staff call the fields that stand in params (field, fields) of a badge; one that is not here is the partner''s own word. Filled with every installation.';

GRANT SELECT ON sync.field TO zest_product, zest_operator;
