-- in database shop as {administrator}
ALTER ROLE editor_role NOLOGIN;
ALTER ROLE shop_owner CONNECTION LIMIT 5;
ALTER ROLE shop_owner VALID UNTIL '2099-01-01 00:00:00+00';
ALTER ROLE report_role VALID UNTIL '2001-01-01 00:00:00+00';
