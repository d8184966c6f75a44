-- in database shop
CREATE EXTENSION "pg_stat_statements"
