/** @jsxImportSource preact */
import { useState } from 'preact/hooks';
import { saveKey } from './api.ts';
import { Outcome } from './parts.tsx';
import { useStore } from './store.ts';

/** Asks for a key of API_KEYS; it stays in this tab. */
export const KeyBox = () => {
  const [key, setKey] = useState('');
  const problem = useStore((state) => state.keyProblem);
  return (
    <main id="main" class="locked">
      <form
        class="card"
        onSubmit={(event) => {
          event.preventDefault();
          saveKey(key.trim());
        }}
      >
        <h2>A key is needed</h2>
        <p class="note" id="key-note">
          This server answers only with a key: one of its API_KEYS, without the name before the colon. It is kept in
          this tab and forgotten when the tab is closed.
        </p>
        <label for="key">API key</label>
        <div class="row">
          <input
            id="key"
            type="password"
            required
            autocomplete="off"
            aria-describedby="key-note"
            value={key}
            onInput={(event) => setKey(event.currentTarget.value)}
          />
          <button type="submit" class="main">
            Open
          </button>
        </div>
        <Outcome problem={problem} />
      </form>
    </main>
  );
};
