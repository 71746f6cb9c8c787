/** Migrations travel inside the program, so that one file built from it has them too. */
declare module '*.cql' {
  const text: string;
  export = text;
}
