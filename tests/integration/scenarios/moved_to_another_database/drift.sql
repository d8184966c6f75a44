-- in database shop as shop_owner
CREATE TABLE public.orders (id int);
-- in database ledger as ledger_owner
CREATE TABLE public.entries (id int);
