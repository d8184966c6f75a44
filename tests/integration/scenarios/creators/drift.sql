-- in database shop as {administrator}
GRANT shop_owner TO stranger;
-- in database shop as shop_owner
GRANT CREATE ON DATABASE shop TO stranger;
GRANT CREATE, USAGE ON SCHEMA public TO stranger, editor_role, {administrator};
-- in database shop as stranger
CREATE TABLE public.strange (id int);
CREATE SCHEMA strange;
CREATE TABLE strange.things (id int);
-- in database shop as {administrator}
CREATE TABLE public.administered (id int);
-- in database shop as editor_role
CREATE TABLE public.edited (id int);
CREATE SEQUENCE public.edited_numbers;
