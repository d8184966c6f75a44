-- A superuser made the roles, so from 16 on nobody else may administer them until told so.
-- in database postgres
CREATE ROLE shop_owner LOGIN;
CREATE ROLE report_role LOGIN;
CREATE DATABASE shop OWNER shop_owner;
