// What the page says, in two languages. `say` finds a phrase; `translate` puts them into the page.

const WORDS = {
  en: {
    skip: "Skip to the tasks", model: "Model", key: "API key", language: "Language", go: "Ask",
    hint: "Ctrl + Enter asks; a text file can be dropped on a field.", load: "Load",
    scores: "Scores", tasks: "Tasks", result: "Result", near: "nearest texts",
    texts: "Texts, one a line: the first is compared with the others",
    text: "Text", question: "Question", context: "Text that may hold the answer",
    query: "Query", documents: "Documents, one a line", nothing: "Nothing was found.",
    noAnswer: "The text holds no answer.", tokens: "{0} tokens read", dropped: "{0} cut",
    cached: "known already", computed: "{0} ms", waiting: "tokens waiting",
    running: "tokens being computed", pace: "tokens a second", workers: "workers ready",
    hits: "answers known already", requests: "requests", needKey: "This server asks for an API key.",
    unreachable: "The server cannot be reached.", about: "{0}, computed by {1}, vectors of {2}",
    task: "Task", split: "Split", metric: "Metric", value: "Score", rows: "Rows",
    "file-image": "Picture ({0})", "file-audio": "Recording ({0})", "file-preview": "Chosen: {0}",
    "file-drop": "Choose a file, or drop one here.", "file-clear": "Remove {0}",
    "file-large": "Too large: a request has at most {0}.",
    candidates: "Candidates for the {0}. hidden word", hide: "Write {0} for a word to be guessed.",
    why: "Why?", attention: "Attention", computing: "Computing …", answer: "Answer", method: "Method",
    ofText: "Text", ownAnswer: "the model's own", integrated_gradients: "Integrated gradients",
    gradient_input: "Gradient × input", occlusion: "Occlusion", shapley: "Shapley values",
    rollout: "Attention rollout", whyOf: "Why: {0}", for: "speaks for it", against: "speaks against it",
    legend: "The strongest score is {0}; the thicker the line, the stronger.", probability: "probability",
    cosine: "cosine", number: "number", score: "score", figures: "The scores as a table", part: "Word",
    valueOf: "Its {0} is {1}; with every word hidden it would be {2}.",
    convergence: "Convergence error {0} of a change of {1}, from {2} points.",
    trust: "How far can this be trusted?", measured: "How faithful", these: "These scores",
    chance: "Chance", comprehensiveness: "Lost without the strongest words (more is better)",
    sufficiency: "Lost with these words alone (less is better)",
    deletion_area: "Mean while words are hidden (less is better)",
    agreement: "Rank correlation with {0}: {1}",
    randomWeights: "With weights drawn at random: {0}; near 1 the scores explain the text and no model.",
    layer: "Layer", head: "Head", meanHead: "mean of all", looks: "{0} → {1}: {2}",
    attentionCaption: "Rows look at columns, in per cent; the strongest is {0}.",
    looksMost: "Where each token looks most",
  },
  zh: {
    skip: "跳到任务", model: "模型", key: "API 密钥", language: "语言", go: "提交",
    hint: "按 Ctrl + Enter 提交；可以把文本文件拖到输入框。", load: "负载",
    scores: "得分", tasks: "任务", result: "结果", near: "最相近的文本",
    texts: "文本，每行一条：第一条与其余各条比较",
    text: "文本", question: "问题", context: "可能含有答案的文本",
    query: "查询", documents: "文档，每行一条", nothing: "没有找到。",
    noAnswer: "文本中没有答案。", tokens: "读取 {0} 个词元", dropped: "截去 {0} 个",
    cached: "来自缓存", computed: "{0} 毫秒", waiting: "等待的词元",
    running: "正在计算的词元", pace: "每秒词元", workers: "就绪的进程",
    hits: "来自缓存的答案", requests: "请求", needKey: "此服务器需要 API 密钥。",
    unreachable: "无法连接服务器。", about: "{0}，由 {1} 计算，向量 {2} 维",
    task: "任务", split: "数据集", metric: "指标", value: "得分", rows: "行数",
    "file-image": "图片（{0}）", "file-audio": "录音（{0}）", "file-preview": "已选择：{0}",
    "file-drop": "选择文件，或将文件拖到这里。", "file-clear": "移除 {0}",
    "file-large": "文件过大：每个请求最多 {0}。",
    candidates: "第 {0} 个被遮词的候选", hide: "用 {0} 代替要猜的词。",
    why: "为什么？", attention: "注意力", computing: "正在计算……", answer: "答案", method: "方法",
    ofText: "文本", ownAnswer: "模型自己的答案", integrated_gradients: "积分梯度",
    gradient_input: "梯度 × 输入", occlusion: "遮挡法", shapley: "Shapley 值",
    rollout: "注意力展开", whyOf: "原因：{0}", for: "支持", against: "反对",
    legend: "最强的得分为 {0}；下划线越粗，得分越强。", probability: "概率",
    cosine: "余弦", number: "数值", score: "分值", figures: "以表格显示得分", part: "词",
    valueOf: "{0}为 {1}；遮住所有词后为 {2}。",
    convergence: "收敛误差 {0}（总变化 {1}，{2} 个积分点）。",
    trust: "这个解释可信吗？", measured: "忠实度", these: "这些得分",
    chance: "随机", comprehensiveness: "去掉最强的词后的下降（越大越好）",
    sufficiency: "只留这些词时的下降（越小越好）",
    deletion_area: "逐词遮挡时的平均值（越小越好）",
    agreement: "与{0}的秩相关：{1}",
    randomWeights: "与随机权重的相关：{0}；接近 1 说明得分只解释了文本，而没有解释模型。",
    layer: "层", head: "头", meanHead: "所有头的平均", looks: "{0} → {1}：{2}",
    attentionCaption: "每行的词元看各列的词元，单位为百分比；最强的为 {0}。",
    looksMost: "每个词元最关注的词元",
  },
};

let language = "en";

/** Choose the language: the one kept from before, or the browser's. */
export function begin() {
  const kept = localStorage.getItem("language");
  language = kept in WORDS ? kept : navigator.language.startsWith("zh") ? "zh" : "en";
  return language;
}

export function choose(name) {
  language = name;
  localStorage.setItem("language", name);
}

/** A phrase, with {0}, {1} … replaced. */
export function say(name, ...values) {
  const phrase = WORDS[language][name] ?? name;
  return phrase.replace(/\{(\d)\}/g, (_, i) => values[Number(i)]);
}

/** Put the phrases into every element that names one. */
export function translate(root = document) {
  document.documentElement.lang = language;
  for (const element of root.querySelectorAll("[data-say]")) {
    element.textContent = say(element.dataset.say);
  }
  document.querySelector("#tasks").setAttribute("aria-label", say("tasks"));
  document.querySelector("#result").setAttribute("aria-label", say("result"));
}
