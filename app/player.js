// The player itself: one clock and one camera for one or two motions, its controls, and its place in a page.
// Drawn only when something changed, never while hidden. Runs as Gradio's js_on_load and in the stand-alone file.

const STACK_BELOW_PX = 560; // two views stand on top of each other below this width
const NARROW_BELOW_PX = 620;
const MAX_PIXEL_RATIO = 2;
const SLOW_FRAME_S = 1 / 24; // below this rate the picture gets coarser while it moves
const COARSEST = 0.5;
const OVERLAY_ALPHA = 0.55; // of the second body
const WAITING_ALPHA = 0.3; // of the bodies that stand on the stage before the first pair
const FEET = [10, 11]; // SMPL foot joints
const TEXT = {
  empty: "Type a prompt and press Generate.",
  working: "Two models are at work\u2026",
  loading: "Loading the body\u2026",
  webgl: "This browser cannot draw 3D here: WebGL 2 is missing or switched off. The video download still works.",
  lost: "The graphics driver took the 3D view away. It comes back by itself; if not, reload the page.",
  failed: "The 3D view could not be loaded. Reload the page; the video download still works.",
};

class MotionPlayer {
  // element: wraps the markup of player.html; loadBody(): Promise<ArrayBuffer>
  constructor(element, loadBody) {
    this.element = element;
    this.root = element.querySelector(".mp");
    this.find = (name) => this.root.querySelector(".mp-" + name);
    this.stage = this.find("stage");
    this.canvas = this.find("canvas");
    this.loadBody = loadBody;
    this.calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.camera = new OrbitCamera(this.calm);
    this.clock = new Clock(() => this.countPlay());
    this.stats = { frames: 0, fps: 0, contexts: 0, plays: 0, firstFrameMs: 0, scale: 1 };
    this.overlay = false;
    this.visible = true;
    this.request = 0; // pending animation frame
    this.shown = 0; // counts values, so that a late answer to an old one is dropped
    this.root.dataset.untouched = "";
    this.setState("empty", TEXT.empty);
    this.bindControls();
    this.bindPage();
    this.prepared = this.prepare().catch((error) => {
      this.broken = true;
      this.fail(error);
    });
  }

  // Context, shaders and body before the first value arrives, so that its first frame comes at once.
  async prepare() {
    try {
      this.renderer = new BodyRenderer(this.canvas);
    } catch (error) {
      throw Object.assign(error, { sentence: TEXT.webgl });
    }
    this.stats.contexts += 1;
    this.readStyle();
    this.body = decodeBody(await this.loadBody());
    this.renderer.setBody(this.body);
    if (!this.pack) this.setScene(standingScene(this.body));
  }

  // Another body in the same motions, where they are.
  async setBody(loadBody) {
    await this.prepared;
    if (this.broken) return;
    this.body = decodeBody(await loadBody());
    this.renderer.setBody(this.body);
    this.setScene(this.pack ? this.scene : standingScene(this.body));
  }

  // ---- value -------------------------------------------------------------------------------------------------

  async setValue(pack) {
    if (this.broken) return;
    const turn = ++this.shown;
    if (!pack || !pack.motions) return this.clear();
    if (this.pack && pack.nonce === this.pack.nonce) return this.setLabels(pack.labels);
    const started = performance.now();
    if (!this.body) this.setState("loading", TEXT.loading);
    await this.prepared;
    if (turn !== this.shown || this.broken) return;
    try {
      this.show(pack, started);
    } catch (error) {
      this.fail(error);
    }
  }

  show(pack, started) {
    const scene = decodePack(pack);
    this.pack = pack;
    this.started = started;
    this.fresh = true;
    this.resumes = false;
    this.clock.start(scene.duration, !this.calm);
    this.find("scrub").max = scene.duration;
    const shortest = Math.min(...scene.motions.map((motion) => motion.duration));
    this.find("scrub").style.setProperty("--mp-end", (100 * shortest) / (scene.duration || 1) + "%");
    this.setLabels(pack.labels);
    this.setScene(scene);
  }

  setScene(scene) {
    this.scene = scene;
    this.poses = scene.motions.map(() => createPose(this.body));
    this.root.dataset.count = scene.motions.length;
    this.layOut();
    this.invalidate();
  }

  clear() {
    this.pack = null;
    this.clock.start(0, false);
    this.setState("empty", TEXT.empty);
    if (this.body) this.setScene(standingScene(this.body));
  }

  setLabels(labels) {
    labels.forEach((label, i) => (this.root.querySelectorAll(".mp-chip b")[i].textContent = label));
  }

  setState(state, text) {
    this.root.dataset.state = state;
    this.element.dataset.state = state;
    if (text) this.find("text").textContent = text;
    const idle = state !== "ready";
    this.root.querySelectorAll(".mp-bar button, .mp-bar select, .mp-bar input").forEach((node) => (node.disabled = idle));
  }

  fail(error) {
    console.error("motion player:", error);
    this.clock.playing = false;
    this.setState("error", error.sentence || TEXT.failed);
  }

  // ---- time --------------------------------------------------------------------------------------------------

  setPlaying(playing) {
    this.clock.setPlaying(playing);
    this.last = performance.now();
    this.invalidate();
  }

  // Stop while a new pair is being made, so that drawing the old one takes nothing from the models; then go on.
  hold(on) {
    if (this.root.dataset.state === "empty") this.setState("empty", on ? TEXT.working : TEXT.empty);
    if (on) this.resumes = this.clock.playing;
    if (on || this.resumes) this.setPlaying(!on);
  }

  seek(time) {
    this.clock.time = clamp(time, 0, this.clock.end);
    this.invalidate();
  }

  countPlay() {
    this.stats.plays += 1;
    this.element.dataset.plays = this.stats.plays;
  }

  // ---- drawing -----------------------------------------------------------------------------------------------

  invalidate() {
    if (this.request || !this.visible || !this.scene || !this.renderer) return;
    this.request = requestAnimationFrame((now) => this.tick(now));
  }

  tick(now) {
    this.request = 0;
    if (!this.element.isConnected || !this.scene || this.renderer.gl.isContextLost()) return;
    const seconds = Math.min(0.25, Math.max(0, now - (this.last || now)) / 1000);
    this.last = now;
    if (this.clock.playing && !this.fresh) this.clock.advance(seconds);
    const moving = this.camera.step(Math.max(seconds, 1 / 60)) || this.clock.playing;
    this.measure(seconds, moving);
    this.draw();
    this.showTime();
    if (this.fresh) this.finishFirstFrame();
    if (moving) this.invalidate();
    else this.last = 0;
  }

  // Frame rate; a slow machine gets fewer pixels while things move and all of them when they rest.
  measure(seconds, moving) {
    const stats = this.stats;
    stats.frames += 1;
    if (!moving) return this.setScale(1);
    if (seconds <= 0) return;
    this.slow = mix(this.slow === undefined ? seconds : this.slow, seconds, 0.15);
    stats.fps = Math.round(10 / this.slow) / 10;
    this.sinceScale = (this.sinceScale || 0) + 1;
    if (this.slow > SLOW_FRAME_S && this.sinceScale > 12) this.setScale(Math.max(COARSEST, stats.scale * 0.75));
  }

  setScale(scale) {
    if (scale === this.stats.scale) return;
    this.stats.scale = scale;
    this.sinceScale = 0;
    this.resize();
  }

  draw() {
    const { motions } = this.scene, time = this.clock.time;
    const spots = motions.map((motion) => pathAt(motion, time));
    const actors = motions.map((motion, i) => this.actor(motion, i, time, spots[i]));
    const paths = motions.map((motion) => box(motion.bounds));
    const widest = [0, 1].map((k) => Math.max(...paths.map((path) => path.extent[k]))); // one camera for both views
    this.views = this.rectangles(this.canvas.width, this.canvas.height).map((rectangle, i) => {
      const followed = this.overlay ? box(around(spots)) : { at: spots[i], extent: [0, 0] };
      const resting = this.overlay ? box(united(motions)) : { at: paths[i].at, extent: widest };
      const camera = this.camera.view(followed, resting, rectangle.width / rectangle.height);
      return { ...rectangle, ...camera, actors: this.overlay ? actors : [actors[i]] };
    });
    this.renderer.draw(this.views, this.style, this.stats.scale < 1);
    this.root.dataset.drawn = "";
  }

  actor(motion, index, time, under) {
    const pose = poseAt(this.body, motion, time, this.poses[index]);
    const contacts = FEET.map((joint) => {
      const height = Math.max(0, pose.joints[joint * 3 + 1] - 0.02);
      return [pose.joints[joint * 3], pose.joints[joint * 3 + 2], 0.13 + 0.25 * height, this.style.contact * Math.exp(-9 * height)];
    });
    contacts.push([pose.joints[0], pose.joints[2], 0.42, this.style.contact * 0.35 * Math.exp(-1.1 * pose.joints[1])]);
    const alpha = !this.pack ? WAITING_ALPHA : this.overlay && index === 1 ? OVERLAY_ALPHA : 1;
    contacts.forEach((contact) => (contact[3] *= alpha));
    return { bones: pose.bones, tint: this.style.bodies[index], alpha, under, contacts };
  }

  rectangles(width, height) {
    if (this.overlay || this.scene.motions.length === 1) return [{ x: 0, y: 0, width, height }];
    const half = { width: Math.floor(width / 2), height: Math.floor(height / 2) };
    if (this.root.dataset.layout === "stacked") {
      return [{ x: 0, y: height - half.height, width, height: half.height }, { x: 0, y: 0, width, height: half.height }];
    }
    return [{ x: 0, y: 0, width: half.width, height }, { x: width - half.width, y: 0, width: half.width, height }];
  }

  finishFirstFrame() {
    this.fresh = false;
    this.renderer.finish();
    this.stats.firstFrameMs = Math.round(performance.now() - this.started);
    this.element.dataset.firstFrameMs = this.stats.firstFrameMs;
    this.element.dataset.nonce = this.pack.nonce;
    this.setState("ready");
    this.element.dispatchEvent(new CustomEvent("motionshown", { bubbles: true }));
  }

  showTime() {
    const { time, playing, end } = this.clock;
    const scrub = this.find("scrub");
    scrub.value = time;
    scrub.style.setProperty("--mp-at", (100 * time) / (end || 1) + "%");
    scrub.setAttribute("aria-valuetext", time.toFixed(1) + " of " + end.toFixed(1) + " seconds");
    this.find("time").textContent = time.toFixed(1) + " / " + end.toFixed(1) + " s";
    this.root.toggleAttribute("data-playing", playing);
    this.find("play").setAttribute("aria-label", playing ? "Pause" : "Play");
    this.scene.motions.forEach((motion, i) => {
      const ended = motion.duration < end && time >= motion.duration;
      this.root.querySelectorAll(".mp-chip")[i].toggleAttribute("data-ended", ended);
    });
  }

  // ---- page --------------------------------------------------------------------------------------------------

  layOut() {
    const width = this.root.clientWidth;
    const stacked = width > 0 && width < STACK_BELOW_PX;
    const two = this.scene && this.scene.motions.length > 1;
    this.overlay = this.overlay && Boolean(two);
    this.root.dataset.layout = this.overlay ? "overlay" : stacked && two ? "stacked" : "side";
    this.root.toggleAttribute("data-narrow", width > 0 && width < NARROW_BELOW_PX);
    this.showSwitches();
    this.resize();
  }

  resize() {
    const ratio = Math.min(MAX_PIXEL_RATIO, window.devicePixelRatio || 1) * this.stats.scale;
    const width = Math.max(1, Math.round(this.stage.clientWidth * ratio));
    const height = Math.max(1, Math.round(this.stage.clientHeight * ratio));
    if (this.canvas.width === width && this.canvas.height === height) return;
    this.canvas.width = width;
    this.canvas.height = height;
    this.invalidate();
  }

  // Colours of the present theme, from the style sheet to linear light where they take part in lighting.
  readStyle() {
    const css = getComputedStyle(this.root);
    const hex = (name) => [1, 3, 5].map((at) => parseInt(css.getPropertyValue("--mp-" + name).trim().slice(at, at + 2), 16) / 255);
    const number = (name) => parseFloat(css.getPropertyValue("--mp-" + name));
    const linear = (name) => hex(name).map((channel) => channel ** 2.2);
    this.style = {
      bodies: [linear("body-a"), linear("body-b")], sky: linear("sky"), bounce: linear("bounce"),
      floor: hex("floor"), line: hex("line"), shade: hex("shade"),
      keyStrength: number("key"), shadowStrength: number("shadow"), contact: number("shadow") * 1.5,
      tileContrast: number("tiles"), lineStrength: number("lines"),
    };
    this.invalidate();
  }

  bindPage() {
    this.closers = [];
    const watch = (observer, ...args) => {
      observer.observe(...args);
      this.closers.push(() => observer.disconnect());
    };
    watch(new ResizeObserver(() => this.layOut()), this.stage);
    watch(new IntersectionObserver((entries) => this.setVisible(entries[entries.length - 1].isIntersecting)), this.stage);
    const themed = new MutationObserver(() => this.readStyle());
    for (const node of [document.documentElement, document.body]) watch(themed, node, { attributeFilter: ["class"] });
    this.canvas.addEventListener("webglcontextlost", (event) => {
      event.preventDefault();
      this.setState("loading", TEXT.lost);
    });
    this.canvas.addEventListener("webglcontextrestored", () => {
      this.renderer.restore();
      this.fresh = Boolean(this.pack);
      if (!this.pack) this.setState("empty", TEXT.empty);
      this.started = performance.now();
      this.invalidate();
    });
  }

  setVisible(visible) {
    this.visible = visible;
    this.last = 0; // time does not run while hidden
    if (visible) this.invalidate();
  }

  bindControls() {
    const metresPerPixel = () => {
      const view = this.views && this.views[0];
      const height = view ? (view.height / this.canvas.height) * this.stage.clientHeight : this.stage.clientHeight;
      return this.camera.metresPerPixel(height, view ? view.width / view.height : 1);
    };
    this.closePointers = bindPointers(this.stage, this.camera, metresPerPixel, () => this.touched());
    this.root.querySelectorAll("[data-act]").forEach((button) => button.addEventListener("click", () => this.act(button.dataset.act)));
    this.find("scrub").addEventListener("input", (event) => this.seek(parseFloat(event.target.value)));
    this.find("speed").addEventListener("change", (event) => (this.clock.speed = parseFloat(event.target.value)));
    this.root.addEventListener("keydown", (event) => this.key(event));
  }

  touched() {
    delete this.root.dataset.untouched;
    this.invalidate();
  }

  act(name) {
    if (!this.pack) return;
    if (name === "play") this.setPlaying(!this.clock.playing);
    if (name === "loop") this.clock.loop = !this.clock.loop;
    if (name === "overlay") this.overlay = !this.overlay && this.scene.motions.length > 1;
    if (name === "follow") this.camera.set({ follow: 1 - this.camera.goal.follow });
    if (name === "reset") this.camera.reset();
    if (name === "full") document.fullscreenElement ? document.exitFullscreen() : this.root.requestFullscreen();
    this.layOut();
    this.invalidate();
  }

  showSwitches() {
    const on = { loop: this.clock.loop, overlay: this.overlay, follow: this.camera.goal.follow === 1 };
    for (const name of Object.keys(on)) {
      this.root.querySelector('[data-act="' + name + '"]').setAttribute("aria-pressed", on[name]);
    }
  }

  // Buttons and the slider keep their own keys; plain arrows are left to the page around the player, which votes by them.
  key(event) {
    if (!this.pack || event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.matches("select") || (event.target.matches("input") && event.key !== " ");
    if (typing || (event.target.matches("button") && [" ", "Enter"].includes(event.key))) return;
    const step = 1 / this.scene.fps;
    const turns = { ArrowLeft: [-0.12, 0], ArrowRight: [0.12, 0], ArrowUp: [0, 0.08], ArrowDown: [0, -0.08] };
    const seeks = { ",": this.clock.time - step, ".": this.clock.time + step, Home: 0, End: this.clock.end };
    const zooms = { "+": 0.9, "=": 0.9, "-": 1.1 };
    const acts = { " ": "play", l: "loop", o: "overlay", f: "follow", c: "reset" };
    if (event.shiftKey && event.key in turns) this.camera.turn(-turns[event.key][0], turns[event.key][1]);
    else if (event.key in seeks) this.seek(seeks[event.key]);
    else if (event.key in zooms) this.camera.zoomBy(zooms[event.key]);
    else if (event.key.toLowerCase() in acts) this.act(acts[event.key.toLowerCase()]);
    else return;
    event.preventDefault();
    this.touched();
  }

  project(view, [x, y, z]) {
    const m = view.viewProjection, w = m[3] * x + m[7] * y + m[11] * z + m[15];
    const right = (m[0] * x + m[4] * y + m[8] * z + m[12]) / w, up = (m[1] * x + m[5] * y + m[9] * z + m[13]) / w;
    const ratio = this.canvas.width / this.stage.clientWidth;
    return [
      (view.x + ((right + 1) / 2) * view.width) / ratio,
      (this.canvas.height - view.y - ((up + 1) / 2) * view.height) / ratio,
    ];
  }

  dispose() {
    cancelAnimationFrame(this.request);
    this.closers.forEach((close) => close());
    this.closePointers();
    if (this.renderer) this.renderer.dispose();
    this.scene = null;
  }
}

// Bounds [x low, x high, z low, z high] as middle and size.
function box([left, right, back, front]) {
  return { at: [(left + right) / 2, (back + front) / 2], extent: [right - left, front - back] };
}

function around(points) {
  const xs = points.map((point) => point[0]), zs = points.map((point) => point[1]);
  return [Math.min(...xs), Math.max(...xs), Math.min(...zs), Math.max(...zs)];
}

function united(motions) {
  return around(motions.flatMap(({ bounds }) => [[bounds[0], bounds[2]], [bounds[1], bounds[3]]]));
}
