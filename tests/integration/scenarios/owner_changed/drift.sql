-- in database shop as old_owner
CREATE TABLE public.orders (id int);
CREATE SCHEMA app;
CREATE TABLE app.customers (id int);
