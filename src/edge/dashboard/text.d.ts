/** Bun's types know HTML imports, not style sheets. */
declare module '*.css';
