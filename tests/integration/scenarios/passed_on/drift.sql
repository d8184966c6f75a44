-- in database shop as shop_owner
CREATE TABLE public.orders (id int);
CREATE TABLE public.notes (id int);
GRANT INSERT, SELECT ON public.orders TO first_role WITH GRANT OPTION;
GRANT DELETE ON public.notes TO first_role WITH GRANT OPTION;
-- in database shop as first_role
GRANT INSERT, SELECT ON public.orders TO second_role WITH GRANT OPTION;
GRANT DELETE ON public.notes TO second_role WITH GRANT OPTION;
-- in database shop as second_role
GRANT INSERT, SELECT ON public.orders TO third_role;
GRANT DELETE ON public.notes TO stranger;
