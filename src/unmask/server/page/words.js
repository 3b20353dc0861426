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
