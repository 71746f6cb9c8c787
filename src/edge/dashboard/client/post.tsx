/** @jsxImportSource preact */
import { useState } from 'preact/hooks';
import { type Answer, answerOf, postJson } from './api.ts';
import { valueText } from './format.ts';
import { Outcome, Section } from './parts.tsx';
import { findPin } from './store.ts';

const EXAMPLE = {
  category: 'mens-fashion',
  index: 7528,
  unique_id: '',
  title: 'Ten quiet outfits for a summer in the city',
  description: 'Linen, light trainers and one good jacket.',
  follower_count: '893k',
  tag_list: 'Mens Fashion,Street Style,Linen',
  is_image_or_video: 'image',
  image_src: 'https://i.pinimg.com/originals/57/90/b0/example.jpg',
  downloaded: 1,
  save_location: 'Local save in /data/mens-fashion',
};

/** randomUUID exists on secure origins only; getRandomValues everywhere. */
const newId = (): string => {
  const hex = [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, '0')).join('');
  return hex.replace(/^(.{8})(.{4}).(.{3}).(.{3})(.{12})$/, '$1-$2-4$3-8$4-$5');
};

const newPin = (): string => JSON.stringify({ ...EXAMPLE, unique_id: newId() }, null, 2);

type Posted = {
  readonly id: string;
  readonly receivedAt: string;
  readonly durability: string | null;
  readonly position: string | null;
};

const post = async (body: string): Promise<Answer<Posted>> => {
  const asked = postJson('/pin/', body);
  const answer = await answerOf<{ readonly unique_id: string; readonly received_at: string }>(asked);
  if ('problem' in answer) return answer;
  const { headers } = await asked;
  const { unique_id: id, received_at: receivedAt } = answer.value;
  return {
    value: { id, receivedAt, durability: headers.get('X-Pin-Durability'), position: headers.get('X-Pin-Position') },
  };
};

const Kept = ({ posted: { id, receivedAt, durability, position } }: { readonly posted: Posted }) => (
  <p class="good">
    Durable in the {durability}
    {position === null ? '' : ` at ${position}`}, received {valueText(receivedAt)}.{' '}
    <button type="button" class="id" onClick={() => findPin(id)}>
      Where is it now?
    </button>
  </p>
);

export const Post = () => {
  const [body, setBody] = useState(newPin);
  const [answer, setAnswer] = useState<Answer<Posted> | null>(null);
  const [busy, setBusy] = useState(false);
  const submit = async () => {
    setBusy(true);
    setAnswer(await post(body));
    setBusy(false);
  };
  return (
    <Section id="post" title="Post a pin">
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void submit();
        }}
      >
        <label for="post-body">the pin as JSON</label>
        <textarea
          id="post-body"
          rows={13}
          spellcheck={false}
          value={body}
          onInput={(event) => setBody(event.currentTarget.value)}
        />
        <div class="row">
          <button type="submit" class="main" disabled={busy}>
            Post
          </button>
          <button type="button" onClick={() => setBody(newPin())}>
            New id
          </button>
        </div>
      </form>
      <Outcome problem={answer !== null && 'problem' in answer ? answer.problem : null}>
        {answer !== null && 'value' in answer ? <Kept posted={answer.value} /> : null}
      </Outcome>
    </Section>
  );
};
