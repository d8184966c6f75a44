-- in database my-shop as my-owner
CREATE SCHEMA "Odd ""schema""; DROP TABLE x;--";
CREATE TABLE "Odd ""schema""; DROP TABLE x;--"."it's
two lines" (id int, "a ""column" text);
CREATE TABLE "Odd ""schema""; DROP TABLE x;--"."plain" (id int);
CREATE SEQUENCE "Odd ""schema""; DROP TABLE x;--"."Zahl ü $tag$ :name";
GRANT TRUNCATE ON "Odd ""schema""; DROP TABLE x;--"."it's
two lines" TO the_select;
GRANT REFERENCES ("a ""column") ON "Odd ""schema""; DROP TABLE x;--"."it's
two lines" TO the_select;
