-- in database shop as shop_owner
CREATE TABLE public.orders (id int, secret text);
CREATE TABLE public.notes (id int);
CREATE SEQUENCE public.numbers;
CREATE SCHEMA app;
CREATE TABLE app.customers (id int);
REVOKE CONNECT ON DATABASE shop FROM shop_owner;
GRANT CONNECT ON DATABASE shop TO PUBLIC;
GRANT CREATE ON DATABASE shop TO report_role;
REVOKE SELECT ON public.notes FROM report_role;
GRANT INSERT, TRUNCATE ON public.orders TO report_role;
GRANT UPDATE (secret) ON public.orders TO report_role;
GRANT SELECT ON public.notes TO editor_role WITH GRANT OPTION;
GRANT USAGE ON public.numbers TO report_role;
GRANT CREATE ON SCHEMA app TO editor_role;
ALTER DEFAULT PRIVILEGES REVOKE INSERT ON TABLES FROM editor_role;
ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT DELETE ON TABLES TO report_role;
-- in database shop as {administrator}
ALTER ROLE report_role PASSWORD 'changed by hand';
ALTER ROLE report_role CREATEDB;
ALTER ROLE shop_owner CONNECTION LIMIT 3;
GRANT shop_owner TO report_role;
