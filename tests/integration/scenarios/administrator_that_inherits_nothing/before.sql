-- in database postgres
ALTER ROLE {administrator} NOINHERIT;
