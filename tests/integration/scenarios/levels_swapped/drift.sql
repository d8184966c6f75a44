-- What the application makes once it runs, in `public` and in a schema of its own.
-- in database shop as shop_owner
CREATE TABLE public.orders (id int, note text);
CREATE SEQUENCE public.numbers;
CREATE SCHEMA app;
CREATE TABLE app.customers (id int);
CREATE TABLE app.parts (id int) PARTITION BY RANGE (id);
CREATE VIEW app.seen AS SELECT id FROM app.customers;
CREATE MATERIALIZED VIEW app.kept AS SELECT id FROM app.customers;
CREATE SEQUENCE app.numbers;
