import { uniformInt } from 'pure-rand/distribution/uniformInt';
import { mersenne } from 'pure-rand/generator/mersenne';
import type { RandomGenerator } from 'pure-rand/types/RandomGenerator';
import { PLACEHOLDERS } from '../pin/clean.ts';
import type { Pin } from '../pin/pin.ts';

export type GenerateOptions = {
  /** Same seed, same pins, ids included. A 32-bit integer. */
  readonly seed: number;
  /** Share of pins with placeholders, 0 to 1. (Default: 0.12, as in the scraper's data.) */
  readonly errorRate?: number;
};

/** What each category is about; a few words are not ASCII, so that encodings are put to the test. */
const WORDS: Readonly<Record<string, readonly string[]>> = {
  art: ['watercolour', 'portrait', 'sketchbook', 'ukiyo-e', '浮世絵', 'collage', 'mural', 'pencil'],
  beauty: ['eyeliner', 'skincare', 'balayage', 'nail art', 'sérum', 'lipstick', 'contour', 'braids'],
  christmas: ['wreath', 'gingerbread', 'garland', 'stocking', 'advent', 'Glühwein', 'tinsel', 'noël'],
  'diy-and-crafts': ['macramé', 'crochet', 'origami', 'paper flowers', 'embroidery', 'candle', 'clay', 'quilt'],
  education: ['classroom', 'flashcards', 'phonics', 'fractions', 'science fair', 'reading corner', 'español', 'map'],
  'event-planning': [
    'invitation',
    'buffet',
    'seating plan',
    'photo booth',
    'bouquet',
    'fiesta',
    'toast',
    'balloon arch',
  ],
  finance: ['budget', 'savings', 'index fund', 'side hustle', 'debt', 'pension', '401(k)', 'cash envelope'],
  'home-decor': ['rattan', 'bookshelf', 'farmhouse', 'hygge', 'terrazzo', 'gallery wall', 'rug', 'lamp'],
  'mens-fashion': ['linen', 'trainers', 'overshirt', 'blazer', 'denim', 'façonné', 'loafers', 'streetwear'],
  quotes: ['courage', 'patience', 'kindness', 'monday', 'carpe diem', '諺', 'gratitude', 'dreams'],
  tattoos: ['fine line', 'mandala', 'forearm', 'blackwork', 'koi 鯉', 'rose', 'script', 'sleeve'],
  travel: ['Lisboa', '東京', 'café', 'road trip', 'hidden beach', 'São Paulo', 'packing list', 'hostel'],
  vehicles: ['roadster', 'camper van', 'Škoda', 'motorbike', 'restoration', 'rally', 'électrique', 'pickup'],
};

const CATEGORIES = Object.keys(WORDS);
const OPENINGS = [
  'Ten',
  'Quiet',
  'Easy',
  'The best',
  'Hidden',
  '✨ Trendy',
  'Small',
  'How to love',
  'Budget',
  '"Real"',
];
const PURPOSES = ['for beginners', 'in the city', 'at home', 'on a budget', 'for a small space', 'this summer 🌞'];
const HINTS = [
  'Save it for later.',
  'Ideas worth trying, step by step.',
  'No tools needed.',
  'Read more → link in bio',
];
const HEX = '0123456789abcdef';

/** The fields a scraper can fail to find; the rest it knows from its own work. */
const SCRAPED = ['title', 'description', 'follower_count', 'tag_list', 'image_src'] as const;
type Scraped = (typeof SCRAPED)[number];

const tools = (rng: RandomGenerator) => {
  const below = (n: number) => uniformInt(rng, 0, n - 1);
  const pick = (from: readonly string[]): string => from[below(from.length)] as string;
  const hex = (digits: number): string => {
    let text = '';
    for (let i = 0; i < digits; i++) text += HEX[below(16)];
    return text;
  };
  const chance = (rate: number) => uniformInt(rng, 0, 999_999) < rate * 1_000_000;
  return { below, pick, hex, chance };
};
type Tools = ReturnType<typeof tools>;

/** A version 4 UUID of the seed's own randomness. */
const uuid = ({ hex, below }: Tools) => `${hex(8)}-${hex(4)}-4${hex(3)}-${HEX[8 + below(4)]}${hex(3)}-${hex(12)}`;

/** As Pinterest shows it: plain digits, thousands and millions; now and then the rarer spellings. */
const followers = ({ below }: Tools): string => {
  const count = String(1 + below(999));
  const form = below(100);
  if (form < 32) return count;
  if (form < 64) return `${count}k`;
  if (form < 94) return `${count}M`;
  if (form < 96) return `${1 + below(9)}.${1 + below(9)}k`;
  if (form < 98) return `${1 + below(9)},${String(below(1000)).padStart(3, '0')}`;
  return `${1 + below(3)}B`;
};

const imageSource = ({ hex }: Tools): string => {
  const hash = hex(32);
  const folder = `${hash.slice(0, 2)}/${hash.slice(2, 4)}/${hash.slice(4, 6)}`;
  return `https://i.pinimg.com/originals/${folder}/${hash}.jpg`;
};

const pinFrom = (t: Tools): Pin => {
  const category = t.pick(CATEGORIES);
  const words = WORDS[category] as readonly string[];
  const phrase = () => `${t.pick(OPENINGS)} ${t.pick(words)} ${t.pick(PURPOSES)}`;
  const tags = Array.from({ length: 3 + t.below(6) }, () => `${t.pick(words)} ${t.pick(['ideas', 'style', 'tips'])}`);
  return {
    category,
    index: t.below(11_155),
    unique_id: uuid(t),
    title: phrase(),
    description: `${phrase()}: ${t.pick(words)}, ${t.pick(words)} and ${t.pick(words)}. ${t.pick(HINTS)}`,
    follower_count: followers(t),
    tag_list: tags.join(','),
    is_image_or_video: t.chance(0.65) ? 'image' : 'video',
    image_src: imageSource(t),
    downloaded: 1,
    save_location: `Local save in /data/${category}`,
  };
};

/** A story page gives the scraper nothing; any other page lacks one field, or a few. */
const spoil = (pin: Pin, t: Tools): Pin => {
  const story = t.chance(0.5);
  const certain = SCRAPED[t.below(SCRAPED.length)];
  const spoilt: Partial<Record<Scraped, string>> = {};
  for (const field of SCRAPED) {
    if (story || field === certain || t.chance(0.2)) spoilt[field] = t.pick(PLACEHOLDERS[field]);
  }
  const kind = story ? { is_image_or_video: 'multi-video(story page format)' } : {};
  return { ...pin, ...spoilt, ...kind, downloaded: spoilt.image_src === undefined ? 1 : 0 };
};

/** Pins without end, as the scraper makes them, placeholders included. */
export function* generatePins({ seed, errorRate = 0.12 }: GenerateOptions): Generator<Pin, never> {
  const t = tools(mersenne(seed));
  for (;;) {
    const pin = pinFrom(t);
    yield t.chance(errorRate) ? spoil(pin, t) : pin;
  }
}
