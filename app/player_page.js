// The player's place in a page: mounting it, fetching its body, and the handle that the page and its tests hold.

// The body file, fetched once a page however many players show it. A relative address also works behind a prefix.
function fetchBody(address) {
  const cache = (window.__motionBodies = window.__motionBodies || {});
  cache[address] = cache[address] || fetch(new URL(address, document.baseURI), { cache: "force-cache" }).then((answer) => {
    if (!answer.ok) throw new Error("body file: HTTP " + answer.status);
    return answer.arrayBuffer();
  });
  return cache[address];
}

// Players of elements that the page has thrown away give their graphics context back.
function mountMotionPlayer(element, loadBody) {
  const all = (window.__motionPlayers = window.__motionPlayers || []);
  all.filter((handle) => !handle.element.isConnected).forEach((handle) => handle.dispose());
  all.splice(0, all.length, ...all.filter((handle) => handle.element.isConnected));
  const player = new MotionPlayer(element, loadBody);
  all.push(playerHandle(player));
  element.motionPlayer = all[all.length - 1];
  return player;
}

// What stands in window.__motionPlayers and in element.motionPlayer.
function playerHandle(player) {
  return {
    element: player.element,
    play: () => player.setPlaying(true),
    pause: () => player.setPlaying(false),
    hold: (on) => player.hold(on),
    seek: (time) => player.seek(time),
    setBody: (address) => player.setBody(() => fetchBody(address)),
    act: (name) => player.act(name),
    setSpeed: (speed) => (player.clock.speed = clamp(speed, 0.1, 4)),
    // World positions (J, 3) of a body's joints at the present time, as drawn.
    joints: (index) => chunks(player.poses[index].joints, 3),
    // World point -> [x, y] in CSS pixels of the stage, as the view of body `index` shows it.
    project: (index, point) => player.project(player.views[Math.min(index, player.views.length - 1)], point),
    get state() { return player.root.dataset.state; },
    get time() { return player.clock.time; },
    get duration() { return player.clock.end; },
    get playing() { return player.clock.playing; },
    get idle() { return !player.request; }, // the picture shows what was last asked for
    get stats() { return { ...player.stats }; },
    dispose: () => player.dispose(),
  };
}

function chunks(array, size) {
  return Array.from({ length: array.length / size }, (_, i) => Array.from(array.subarray(i * size, (i + 1) * size)));
}
