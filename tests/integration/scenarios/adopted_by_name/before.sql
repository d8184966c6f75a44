-- in database postgres as {administrator}
CREATE ROLE shop_owner LOGIN PASSWORD 'of old' CREATEDB;
CREATE ROLE report_role LOGIN;
COMMENT ON ROLE shop_owner IS 'the shop''s own';
GRANT shop_owner TO {administrator};
CREATE DATABASE shop OWNER shop_owner;
REVOKE shop_owner FROM {administrator};
-- in database shop as shop_owner
CREATE TABLE public.orders (id int);
GRANT ALL ON public.orders TO report_role;
GRANT SELECT ON public.orders TO PUBLIC;
