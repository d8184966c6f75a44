-- in database shop as shop_owner
CREATE EXTENSION hstore SCHEMA public;
CREATE EXTENSION pg_trgm SCHEMA public;
