// One clock for both bodies: play, pause, speed, loop, and whether the motions were really watched.

const SEEN_PARTS = 20; // a play counts when COUNTED_SHARE of these parts of the motion ran before the eyes
const COUNTED_SHARE = 0.8;

class Clock {
  constructor(onPlayed) {
    this.onPlayed = onPlayed; // called each time the motions were watched to the end
    this.speed = 1;
    this.loop = true;
    this.start(0, false);
  }

  // A new pair that lasts `end` seconds.
  start(end, playing) {
    Object.assign(this, { time: 0, end, playing, seen: new Set() });
  }

  setPlaying(playing) {
    if (playing && this.time >= this.end) this.time = 0;
    this.playing = playing;
  }

  advance(seconds) {
    const before = this.time;
    this.time += seconds * this.speed;
    this.watch(before, Math.min(this.time, this.end));
    if (this.time < this.end) return;
    if (this.loop && this.end > 0) this.time %= this.end;
    else {
      this.time = this.end;
      this.playing = false;
    }
  }

  // Jumping to the end with the slider is not watching: only parts that ran count.
  watch(from, to) {
    const part = (time) => Math.floor((SEEN_PARTS * time) / (this.end || 1));
    for (let i = part(from); i <= Math.min(part(to), SEEN_PARTS - 1); i++) this.seen.add(i);
    if (to < this.end || this.seen.size < COUNTED_SHARE * SEEN_PARTS) return;
    this.seen.clear();
    this.onPlayed();
  }
}
