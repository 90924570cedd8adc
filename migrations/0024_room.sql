-- Room on each page of orders for the settled version of every row on it. A batch settles all orders of a page at once, and with
-- a fifth of the page free three of four found no room: they went to another page and into all three indexes again. A settled
-- row is a little longer: it has a time, and perhaps a reason. Rows that exist stay where they are.
ALTER TABLE orders SET (fillfactor = 45);
