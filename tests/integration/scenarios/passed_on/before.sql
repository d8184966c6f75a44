-- in database postgres
CREATE ROLE stranger LOGIN;
