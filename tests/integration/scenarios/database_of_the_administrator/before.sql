-- in database postgres as {administrator}
CREATE DATABASE shop TEMPLATE template0;
-- in database shop as {administrator}
CREATE SCHEMA app;
CREATE TABLE app.customers (id int);
CREATE SEQUENCE app.numbers;
