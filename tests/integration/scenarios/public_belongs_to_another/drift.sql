-- in database shop as shop_owner
CREATE SCHEMA app;
CREATE TABLE app.customers (id int);
-- in database shop
ALTER SCHEMA public OWNER TO rdsadmin;
REVOKE ALL ON SCHEMA public FROM PUBLIC, shop_owner, report_role;
