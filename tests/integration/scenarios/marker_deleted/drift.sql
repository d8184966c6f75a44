-- in database shop as shop_owner
COMMENT ON DATABASE shop IS NULL;
