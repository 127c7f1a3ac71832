/* Spock 5.0.0 to 5.0.1. Only functions changed; these are replaced on the way to 7.0.0. */

\echo Use "ALTER EXTENSION spock UPDATE" to load this file. \quit
