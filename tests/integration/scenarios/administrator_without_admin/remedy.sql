-- in database postgres
GRANT "report_role" TO "{administrator}" WITH ADMIN OPTION;
GRANT "shop_owner" TO "{administrator}" WITH ADMIN OPTION
