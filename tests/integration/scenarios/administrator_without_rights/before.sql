-- in database postgres
ALTER ROLE {administrator} NOCREATEROLE NOCREATEDB;
